"""Generated scenes: images of shapes with their masks, for the demo and the tests."""
