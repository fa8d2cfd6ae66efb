"""Every text file that a person writes is read here: UTF-8, lines, YAML and JSON."""
