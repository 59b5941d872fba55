"""Layer `runtime`: starts, watches, stops and adopts the processes of a desk."""
