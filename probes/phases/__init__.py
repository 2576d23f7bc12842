"""Phase marks: which calls of the GenAI library begin and end the phases of a run, and how they are seen."""
