"""A page that a robot serves: it shows what the nodes see and learn, and takes a person's clicks. Nothing here needs ROS."""
