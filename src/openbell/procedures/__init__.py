"""Layer `procedures`: opening and closing a desk as steps that observe, plan, act and verify."""
