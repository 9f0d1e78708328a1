"""Pictures of the tables: matplotlib Axes in, Axes out."""
