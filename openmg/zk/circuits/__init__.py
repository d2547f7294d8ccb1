"""The statements that are proved, one file each."""
