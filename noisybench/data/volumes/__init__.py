"""Medical volumes: their layouts, orientation and slices."""
