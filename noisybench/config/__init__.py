"""Components, recipes, suites and run specifications."""
