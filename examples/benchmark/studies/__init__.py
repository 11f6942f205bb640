"""Side questions, a folder each: run, report, and what was measured."""
