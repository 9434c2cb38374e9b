"""Labels of examples as people have them: columns, tables and votes, matched to classes and examples by name."""
