"""What `delivery adopt` did, and what is left to a person."""

from delivery.verbs.adopt import Adopted


def print_adopted(done: Adopted, dry_run: bool) -> None:
    """The difference, and how to look at it, keep it or take it back."""
    print(f"{done.name}: Git {done.git}, image {done.image}, site {done.site}")
    if not done.files:
        print("nothing to change")
    elif dry_run:
        print(done.difference)
    else:
        print(f"{done.files} files changed, {done.moved} of them moved; staged, not committed:")
        print("  look at it      git diff --cached -M")
        print(f'  keep it         git commit -m "This is {done.name}"')
        print("  take it back    git reset --hard")
    if done.missing:
        print(f"still to say in pipeline.yaml, under sites, for {done.site}: {'; '.join(done.missing)}")
