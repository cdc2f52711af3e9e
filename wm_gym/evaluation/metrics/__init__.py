"""What is measured on generated video? One file a metric, arrays in, numbers out."""
