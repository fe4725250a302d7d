"""Speed, memory and quality claims, each as a command that prints a table."""
