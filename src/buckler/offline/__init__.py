"""Questions about policies that stand in files: no controller, no root. Reads files, prints answers, changes nothing."""
