"""Test vectors: what an engine must compute from a bundle. `models/BUNDLE.md` says what they mean."""
