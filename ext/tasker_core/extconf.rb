# frozen_string_literal: true

require_relative "build_requirements"

problem = TaskerCore::BuildRequirements.new.problem
abort problem if problem

require "mkmf"
require "rb_sys/mkmf"

create_rust_makefile("tasker_core/tasker_core") do |builder|
  # RubyGems removes these after it has installed the library: the copy in this directory, and cargo's build, which
  # takes half a gigabyte. rb_sys itself removes only one directory of target.
  builder.rubygems_clean_dirs += %w[$(DLLIB) target]
end
