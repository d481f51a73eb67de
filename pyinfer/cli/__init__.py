"""The command line: `pyinfer run`, `chat`, `bench`, `inspect`. Nothing else imports it."""
