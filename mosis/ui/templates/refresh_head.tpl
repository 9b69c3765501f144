<noscript><meta http-equiv="refresh" content="3"></noscript>
