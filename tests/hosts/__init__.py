"""Tests of launcher/hosts."""
