"""The subcommands of `wesam`, one file each."""
