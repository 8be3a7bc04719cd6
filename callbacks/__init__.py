"""Lightning callbacks: when to measure, on how many images, under which name; and what to leave behind."""
