"""What each chapter measures and concludes: one module a question, with its verdicts."""
