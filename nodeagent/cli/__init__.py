"""The command line: argv to one call each, and answers as tables or JSON."""
