"""What is wrong: one module per family, each finding defined where it is computed."""
