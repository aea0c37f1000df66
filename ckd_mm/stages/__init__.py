"""The stages of a run, one file each: settings, checks, config, work, result, and what the page shows."""
