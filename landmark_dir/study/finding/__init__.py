"""From a folder of exams to pairs: what lies there, which belong together, what is left out."""
