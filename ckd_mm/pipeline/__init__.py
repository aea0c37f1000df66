"""The stages of a run in turn, each done once, resumed where it stopped, and written down."""
