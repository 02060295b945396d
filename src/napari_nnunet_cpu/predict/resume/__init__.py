"""Runs that outlive their process: saved while they go on, found and resumed later."""
