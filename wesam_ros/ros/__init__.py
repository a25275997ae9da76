"""ROS glue as parts that a node holds."""
