"""What everything stands on: errors, settings, schemas, progress, logs. Imports third parties only."""
