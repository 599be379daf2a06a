"""What is done with a corpus besides auditing: merge, remove, describe, check a picture, export, sum up."""
