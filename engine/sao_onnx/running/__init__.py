"""Plans carried out over the stages."""
