"""What `gradserve doctor` reads and shows: data in, text and HTML out."""
