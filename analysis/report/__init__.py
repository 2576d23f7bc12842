"""One file per output of an analysed trace."""
