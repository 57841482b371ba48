"""The faithful mode: bundles in processes of their own, in the pinned environment, with limits."""
