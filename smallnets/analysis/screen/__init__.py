"""The pictures for the screen, as Plotly figures."""
