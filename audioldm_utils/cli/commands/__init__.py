"""One module a subcommand: HELP, EXAMPLES, add_arguments(parser), run(args)."""
