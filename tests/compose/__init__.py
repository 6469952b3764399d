"""The containers judged from outside: `make compose-test`."""
