"""AudioLDM2 itself: front end, checkpoint, networks, prompts, schedule, generation, streaming."""
