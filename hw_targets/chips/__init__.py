"""What a chip is: its facts, each with a source, and the contract that a family of chips (a target) fulfils."""
