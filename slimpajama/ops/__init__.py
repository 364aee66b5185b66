"""Looks at or mends a workspace afterwards: report, forecast, observation, verification, retention, export."""
