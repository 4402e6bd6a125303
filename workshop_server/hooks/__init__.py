"""Cloud hooks: messages and web hooks when the state of a flow run changes."""
