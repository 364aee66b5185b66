"""What a night would bring and cost, told from a sample: `prepare --dry-run`.

About 16 MB of text, drawn evenly over the sources, their files and the places in these (`sample`), goes through the
very stages of a night, in a temporary folder that is thrown away (`passes`). From what that took, the night is told
(`estimate`) and shown (`text`).
"""

from slimpajama.ops.forecast.estimate import Forecast, SourceForecast, forecast

__all__ = ["Forecast", "SourceForecast", "forecast"]
