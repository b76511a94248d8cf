"""Networks: name -> network up to a layer, with its preprocessing."""
