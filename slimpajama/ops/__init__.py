"""What looks at a workspace or repairs it: report, forecast, observation, verification, retention, export."""
