"""What people have to hand in, made from the log: every row names the entries it rests on."""
