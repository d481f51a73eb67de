"""The command line: `pyinfer run`, `bench`, `inspect`. Nothing else imports it."""
