"""One module a verb: what the command does, in the order in which it is done."""
