"""Evaluates a model on benchmarks: files, statistics, results, comparison."""
