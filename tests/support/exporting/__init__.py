"""Factories of what `gradserve export` exports, a module for each framework."""
