"""HTTP: the web page, the JSON API and the Open Inference Protocol, with the limits they need."""
