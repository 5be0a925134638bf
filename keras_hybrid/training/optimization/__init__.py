"""Optimisers, schedules, moving averages, rates by depth."""
