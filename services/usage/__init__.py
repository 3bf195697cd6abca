"""Usage of data: sessions taken in and counted, what cards used by their suppliers' word, and how it is shown."""
