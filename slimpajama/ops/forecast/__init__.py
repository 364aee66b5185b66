"""The cost forecast of a night, from a sample: `prepare --dry-run`.

About 16 MB of text are drawn evenly over the sources, their files and the places in these (`sample`). They go through
the same steps as a night, in a temporary folder (`passes`). What that took gives the forecast (`estimate`), which is
shown as a table or as JSON (`text`).
"""

from slimpajama.ops.forecast.estimate import Forecast, SourceForecast, forecast

__all__ = ["Forecast", "SourceForecast", "forecast"]
