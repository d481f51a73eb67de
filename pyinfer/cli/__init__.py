"""The command line, a file for each command. Nothing else imports it."""
